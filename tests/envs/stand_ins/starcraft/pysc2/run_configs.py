"""Where the game is kept."""

import os
from pathlib import Path


class SC2LaunchError(Exception):
    """There is no game."""


class Config:
    """A game in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def map_data(self, path: str) -> bytes:
        """What a map's file holds."""
        file = self.folder / "Maps" / path
        if not file.exists():
            raise ValueError(f"Map {path} not found in {self.folder}/Maps.")
        return file.read_bytes()


def get() -> Config:
    """The game that ``SC2PATH`` names."""
    folder = Path(os.environ.get("SC2PATH", "/nowhere"))
    if not folder.is_dir():
        raise SC2LaunchError(f"Expected to find StarCraft II installed at '{folder}'.\nIf it is, set SC2PATH.")
    return Config(folder)
