"""The errors of the synthetic headset; each message says what was expected, what was found and the remedy.

FacesError
├── RigError       a rig file or FaceXModel folder that cannot be used
├── ConfigError    a render configuration outside its ranges
└── DatasetError   a dataset folder made with another configuration or rig
"""


class FacesError(ValueError):
    """Something that the synthetic headset cannot go on with."""


class RigError(FacesError):
    """A rig file or FaceXModel folder that cannot be used."""


class ConfigError(FacesError):
    """A render configuration outside its ranges."""


class DatasetError(FacesError):
    """A dataset folder made with another configuration or rig."""
