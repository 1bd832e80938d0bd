"""`make gpu`: one table of what only a GPU can show, in ten minutes, from a checkout without a network.

Models are made from a config with random weights, data are the guide's and made ones. `python -m benchmarks.gpu --cpu`
runs the same rows with tiny sizes on a CPU.
"""
