"""The OpenAPI document of the service: what FastAPI derives from the routes, with examples.

`python -m service.openapi FILE` writes it: `docs/openapi.json` is compared with it by a test, so that whoever changes
the API sees what changes for its clients.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI

from service.examples import EXAMPLES

# FastAPI's names of a schema that reads otherwise than it writes.
_SUFFIXES: Final = ("", "-Input", "-Output")


class DocumentedApp(FastAPI):
    """An app whose OpenAPI document has an example of each schema."""

    def openapi(self) -> dict[str, Any]:
        """Return the document; made once."""
        if self.openapi_schema is None:
            schemas = super().openapi()["components"]["schemas"]
            for example in EXAMPLES:
                for name in (f"{type(example).__name__}{suffix}" for suffix in _SUFFIXES):
                    if name in schemas:
                        schemas[name]["examples"] = [example.model_dump(mode="json", exclude_unset=True)]
        return super().openapi()


def text(app: FastAPI) -> str:
    """Return an app's document as it lies in `docs/openapi.json`: without the version, which every release changes."""
    document = app.openapi()
    info = {name: value for name, value in document["info"].items() if name != "version"}
    return json.dumps({**document, "info": info}, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    from service.app import create_app
    from service.settings import Settings

    Path(sys.argv[1]).write_text(text(create_app(Settings())))
