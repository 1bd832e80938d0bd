"""The pages' own words: what `translations.fixed` is asked for. A test prints every page and finds none that is not here."""

FIXED = (
    "any number", "empty", "or", "{low} to {high}", "above {x}", "at least {x}", "below {x}", "at most {x}", " ({ends} excluded)", "and",
    "A run is one choice a group (GROUP=OPTION), and knobs (GROUP.KNOB=VALUE).", "7B, or not known", "A preset", "exactly", " (default)",
    "costs", "often misread", "take it", "a knob: what it does, what to set it to, why, and who says so",
    "a group: its options side by side", "an option: when to take it, and its knobs", "every knob and option that speaks of a word",
    "the curves of the preference losses; of schedules, scheduler --plot", "all of it as one page for a browser", "type", "usual",
    "legal", "advice", "raise it", "lower it", "leave it", "meets", "memory", "time", "misread", "give it", "of", "source", "sure",
    "links", "empty is", "{one} is the same curve as {other}, {how}.", "a knob", "the curve", "an option", "Knobs of the run itself:",
    ", which is {value} in the default run", " (all but {names})", " ({base} with other values.)",
    "to within {number} % of the peak rate", "Bytes a trained weight of a large matrix, as weights + gradients + optimizer state:",
    "Bytes a frozen weight of a linear layer:", "Its knobs:", "Knobs:", "Ask:", "What is held in which type:", "Costs:",
    "every {group} option", "The same curve under another name:", "{base} with:", "a token", "an answer", "against the reference",
    "without a reference", "; the chosen answer rises by half of it, the rejected falls by half",
    "The share of optim.lr by optimizer step", "the loss over the margin of log-probabilities, in nats {unit}, {against}",
    "The share of optim.lr by evaluation, an example", "Fulgurite: every knob explained", "search: words, all of them", "search",
    "Nothing speaks of this.", "list of", "one of", "whole number", "number", "true or false", "text", "mapping", "frozen weights",
    "trained weights", "compute", "gradients", "optimizer state", "option", "what it is, when to take it",
    "{old} is now {new}.",
    "The preference losses over the margin of log-probabilities, each at its own beta; the dashed line is a margin of 0",
)
