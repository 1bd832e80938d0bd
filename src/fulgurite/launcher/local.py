"""Starts the processes of a run on this machine."""

from __future__ import annotations

import os

from fulgurite.language.message import message
from fulgurite.launcher.config import Launcher
from fulgurite.launcher.request import LaunchRequest, forget_folder
from fulgurite.strategy import config as strategy
from fulgurite.strategy.ranks import check_nodes
from fulgurite.text.console import say
from fulgurite.train import launcher


def launch(config: Launcher, request: LaunchRequest) -> int:
    """Returns the exit status of this machine's share of the processes of a run, all in one run folder."""
    devices, nodes, ranks = request.devices, request.num_nodes, request.ranks
    check_nodes(devices, nodes, ranks, os.environ)
    request.check()
    if devices > (cores := strategy.available()):
        say(
            message(
                "warning: trainer.devices={devices} processes share {cores} CPU cores; fewer processes are faster.",
                devices=devices, cores=cores,
            )
        )
    if request.is_fresh and ranks.node_rank > 0:  # the first machine names the folder
        return launcher.launch(request.words, devices, None, ranks.node_rank, nodes)
    folder = request.choose_folder()
    status = launcher.launch(request.add_folder(folder), devices, folder, ranks.node_rank, nodes)
    if status and request.is_fresh:
        forget_folder(folder)
    return status
