"""The network: Hugging Face's Hub and the package index. What comes is whole and verified."""

from fwlocal.hub.package import fetch_package, sync_folder

__all__ = ["fetch_package", "sync_folder"]
