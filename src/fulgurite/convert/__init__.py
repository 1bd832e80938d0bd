"""Files of settings of other trainers in our words, with a line for every key."""
