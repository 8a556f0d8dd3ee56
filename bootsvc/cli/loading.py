"""Load the modules of a command, with the collector of cycles at rest."""

import gc
from importlib import import_module
from types import ModuleType


def load(name: str) -> ModuleType:
    """Import a module. What is loaded stays for as long as the process: the collector need not look at it, then or later."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
