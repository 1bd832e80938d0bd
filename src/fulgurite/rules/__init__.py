"""Rules: functions that look at facts and return findings. `plan` and `monitor` each have a registry of them."""
