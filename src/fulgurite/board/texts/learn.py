"""Texts of the page: the chapters of the guide."""

from __future__ import annotations

from fulgurite.language.message import UserMessage, message

TEXTS: dict[str, UserMessage] = {
    "title": message("Learn"),
    "lead": message("The guide explains each choice and each parameter. It has a search of its own."),
    "open": message("Open the guide"),
    "decide": message("What should I train, and how?"),
    "decide_about": message("Four questions, and a command line that fits your data and your machine."),
    "choose": message("Choose"),
    "choose_about": message("Stages, methods, and how much memory each of them needs."),
    "train": message("Train"),
    "train_about": message("The first run in a few steps, with every parameter derived."),
    "diagnose": message("Diagnose"),
    "diagnose_about": message("What a curve, an answer or an error means, and what to change."),
    "change": message("Change"),
    "change_about": message("The ten parameters that decide most, and when to raise or lower each."),
    "mistakes": message("Common mistakes"),
    "mistakes_about": message("What many people believe about fine-tuning, and what is true."),
    "article": message("From LLaMA-Factory's article"),
    "article_about": message("The parameters of LLaMA-Factory's form, in its order, with their names here."),
    "reference": message("Reference"),
    "reference_about": message("Every option and every parameter: range, usual values, advice and sources."),
}
