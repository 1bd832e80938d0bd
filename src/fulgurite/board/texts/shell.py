"""Texts of the page: what every screen shows, and the bar with the command line."""

from __future__ import annotations

from fulgurite.language.message import UserMessage, message

TEXTS: dict[str, UserMessage] = {
    "title": message("Fulgurite board"),
    "navigation": message("Screens of the board"),
    "nav_start": message("Start"),
    "nav_parameters": message("Parameters"),
    "nav_plan": message("Plan"),
    "nav_run": message("Run"),
    "nav_runs": message("Runs"),
    "nav_learn": message("Learn"),
    "nav_launch": message("Starting"),
    "skip": message("Skip to the content"),
    "language": message("Language"),
    "theme_now": message("Colours: {theme}. Click to change."),
    "theme_system": message("as the system"),
    "theme_light": message("light"),
    "theme_dark": message("dark"),
    "connection_lost": message(
        "The connection to the server is lost; trying again. A training that runs is not "
        "affected."
    ),
    "connection_closed": message(
        "The server does not know this browser. Open the address that `fulgurite board` printed in the "
        "terminal."
    ),
    "screen_failed": message("This screen failed. What you entered is kept."),
    "reload": message("Load the page again"),
    "loading": message("Loading ..."),
    "copy": message("Copy"),
    "copied": message("Copied"),
    "close": message("Close"),
    "undo": message("Undo"),
    "try_again": message("Try again"),
    "browse": message("Browse"),
    "seconds": message("{count} s"),
    "minutes": message("{count} min"),
    "hours": message("{hours} h {minutes} min"),
    "days": message("{days} d {hours} h"),
    "no_run": message("There is no run yet."),
    "no_run_start": message("Start one"),
    "command": message("Command line of this run"),
    "copy_command": message("Copy the command line"),
    "start_training": message("Start training"),
    "start_search": message("Start the search"),
    "starting": message("Starting ..."),
    "cannot_start": message("This run cannot start: {reason}"),
    "no_command": message("The command line appears once the plan is computed."),
    "start_anyway": message("Start anyway"),
    "launch_started": message("The training is starting. Loading the model can take a minute."),
    "launch_failed": message("The training did not start. Below is what it printed."),
    "launch_ended": message("The command ended."),
    "launch_output": message("Output"),
    "launch_back": message("Back to the parameters"),
    "launch_runs": message("Show all runs"),
}
