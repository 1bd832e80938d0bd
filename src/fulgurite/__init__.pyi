from fulgurite.train.experiment import Experiment as Experiment
from fulgurite.train.experiment import experiment as experiment

__version__: str
__all__ = ["Experiment", "__version__", "experiment"]
