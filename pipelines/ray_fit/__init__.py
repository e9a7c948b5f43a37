"""`python -m pipelines.ray_fit`: a fit by the processes of a Ray cluster, in Ray's own TorchTrainer.

Ray starts the processes, puts them into one group, and starts all of them again where one dies; what they do
is the `fit` that torchrun starts, which goes on from the run's newest checkpoint. Ray's own are not used.
"""
