"""The models a device runs: a checked bundle on a runtime for every contrast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lohi_edge import acceptance, signing
from lohi_edge import bundle as bundles
from lohi_edge.device import installed
from lohi_edge.runtime import Choice, choose


@dataclass(frozen=True, eq=False)
class Model:
    """A checked bundle on a runtime."""

    bundle: bundles.Bundle
    choice: Choice


class Models:
    """Bundles loaded once and kept; which one runs depends on a scan's contrast.

    Args:
        path: the only bundle to use; None for each contrast's own: the active one of this device,
            else the one that ships.
        threads: of the CPU; None for one per core.
        runtime, precision: "auto", or one of `lohi_edge.runtime`'s RUNTIMES and PRECISIONS.
        screened: the caller checked signature and serial, and nothing is to be remembered of them.
        prove: run the golden slices of each model when it is loaded, as `acceptance.prove` does.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        threads: int | None = None,
        runtime: str = "auto",
        precision: str = "auto",
        screened: bool = False,
        prove: bool = False,
    ) -> None:
        self._screened = screened
        self._choose = acceptance.prove if prove else choose
        self._path = Path(path) if path is not None else None
        self.threads = threads
        self._options = (threads, runtime, precision)
        self._chosen: dict[str, Path] = {}
        self._loaded: dict[Path, Model] = {}

    def get(self, contrast: str) -> Model:
        """The model for a contrast, loaded on first use.

        Raises:
            BundleError: no bundle serves the contrast, or it cannot be trusted or loaded.
        """
        if not self._path and contrast not in self._chosen:
            self._chosen[contrast] = installed.resolve(contrast)
        path = self._path or self._chosen[contrast]
        if path not in self._loaded:
            bundle = bundles.load(path)
            if not self._screened:
                # Serials are checked at activation; going back to an earlier bundle is no attack.
                signing.admit(bundle, allow_downgrade=installed.is_active(path))
            self._loaded[path] = Model(bundle, self._choose(bundle, *self._options))
        model = self._loaded[path]
        bundles.require_contrast(path, model.bundle.manifest, contrast)
        return model
