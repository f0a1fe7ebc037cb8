"""A pytest plugin: a history that fails is enough, it need not be the shortest."""

from hypothesis import Phase, settings

settings.register_profile("unshrunk", phases=[Phase.generate])
settings.load_profile("unshrunk")
