from fulgurite.errors import ConfigError as ConfigError
from fulgurite.errors import FulguriteError as FulguriteError
from fulgurite.errors import Interrupted as Interrupted
from fulgurite.errors import RequestError as RequestError
from fulgurite.errors import TrainingFailed as TrainingFailed
from fulgurite.train.experiment import Experiment as Experiment
from fulgurite.train.experiment import experiment as experiment

__version__: str
__all__ = [
    "ConfigError", "Experiment", "FulguriteError", "Interrupted", "RequestError", "TrainingFailed", "__version__",
    "experiment",
]
