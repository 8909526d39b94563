"""From an upload to a dataset, and from a wish to a recorded adaptation. Nothing is kept of what is refused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, TypeVar

from pydantic import Field, ValidationError

from search_spaces.errors import lookup
from search_spaces.registry import SPACES
from service.errors import InvalidRequestError
from service.idempotency import once
from service.prior_catalog import PriorCatalog
from service.records.adaptations import AdaptationRecords
from service.records.datasets import DatasetRecords
from service.records.model import Adaptation, Dataset
from service.schemas import AdaptationForm, DatasetChange
from service.uploads import Body, Upload
from workers.adapt.plan import check_request
from workers.contracts.adaptations import NO_PRIOR, AdaptationRequest
from workers.contracts.base import Contract
from workers.contracts.datasets import DatasetReport
from workers.store import layout
from workers.store.protocol import Store
from workers.tasks.archive import run_check
from workers.tasks.check_process import Checks
from workers.tasks.limits import ArchiveLimits

DATASET_FILE: Final = "dataset"
MAX_NAME: Final = 200
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f]")

Fields = TypeVar("Fields", bound=Contract)


class DatasetFields(DatasetChange):
    """What a form may say of the dataset that it brings; a new one of which nothing is said is not learned from."""

    name: str | None = Field(None, description="Absent: the file's name, or that of the same bytes, uploaded before.")


@dataclass(frozen=True, kw_only=True)
class Intake:
    """Checks what comes in, keeps what is good, records it.

    Attributes:
        datasets: Records of datasets.
        adaptations: Records of adaptations.
        store: Where archives go.
        priors: For the prior that a request names.
        limits: Of an archive.
        checks: The checks of archives that run.
    """

    datasets: DatasetRecords
    adaptations: AdaptationRecords
    store: Store
    priors: PriorCatalog
    limits: ArchiveLimits
    checks: Checks

    def add_dataset(self, body: Body, *, owner: str) -> tuple[Dataset, bool]:
        """Return the dataset that a body holds, and whether it is new: the same bytes are one dataset.

        What the body says of bytes that are known holds from then on; what it does not say stays.

        Raises:
            InvalidRequestError: The body holds no file, or fields that are not known.
            InvalidDatasetError: The file is no dataset; says why.
            QuotaExceededError: Its owner may not have so many bytes.
        """
        fields = parse_fields(DatasetFields, body.fields)
        upload = body.uploads.get(DATASET_FILE)
        if upload is None:
            raise InvalidRequestError("the form holds no file", expected=f"the zip as field {DATASET_FILE}")
        name = _display_name(fields.name) if fields.name else None
        fields = fields.model_copy(update={"name": name})
        dataset = self.datasets.find(upload.sha256, owner=owner)
        if dataset is None:
            dataset, is_new = self._admit(upload, self._check(upload, owner=owner), fields, owner=owner)
            if is_new:
                return dataset, True
        return self.datasets.change(dataset.id, fields, owner=owner), False

    def add_adaptation(self, body: Body, *, owner: str, key: str | None = None) -> Adaptation:
        """Return the new adaptation that a body asks for; its dataset comes along, or is named by id.

        Everything is checked before anything is kept. The same body with the same `key` makes no second one.

        Raises:
            IdempotencyKeyReusedError: Another request had this key.
            QuotaExceededError: Its owner has as much as it may.
            InvalidRequestError: Fields that are not known, wrong values, both or neither way to give the dataset.
            NotFoundError: No such dataset.
            ArchPriorError: The dataset, the search space, the prior or the limits cannot be accepted.
        """
        asked = parse_fields(AdaptationForm, body.fields)
        files = {name: upload.sha256 for name, upload in body.uploads.items()}
        first = once(key, operation="create_adaptation", request=asked, files=files)
        made = self.adaptations.made_by(first, owner=owner)
        if made is not None:
            return made
        self.adaptations.require_room(owner=owner)
        request = self._resolve(asked.told(), owner=owner)
        card = None if request.prior == NO_PRIOR else self.priors.card(request.prior or "", owner=owner)
        upload, dataset_id = body.uploads.get(DATASET_FILE), request.dataset_id
        if upload is not None and dataset_id is None:
            known = self.datasets.find(upload.sha256, owner=owner)
            report = self._check(upload, owner=owner) if known is None else known.report
            check_request(request, report, card)
            dataset = known or self._admit(upload, report, DatasetFields(), owner=owner)[0]
        elif upload is None and dataset_id is not None:
            dataset = self.datasets.get(dataset_id, owner=owner)
            check_request(request, dataset.report, card)
        else:
            expected = f"a zip as field {DATASET_FILE}, or a dataset_id"
            raise InvalidRequestError("an adaptation needs one dataset", expected=expected)
        request = request.model_copy(update={"dataset_id": dataset.id})
        return self.adaptations.add(request, dataset, owner=owner, priority=asked.priority, once=first)

    def _resolve(self, request: AdaptationRequest, *, owner: str) -> AdaptationRequest:
        """Name the prior that a request without one gets: what is promoted later does not change it."""
        lookup(SPACES, request.search_space, kind="search space")
        prior = request.prior or self.priors.default_for(request.search_space, owner=owner) or NO_PRIOR
        return request.model_copy(update={"prior": prior})

    def _check(self, upload: Upload, *, owner: str) -> DatasetReport:
        self.datasets.require_room(upload.num_bytes, owner=owner)  # before the work that a check is
        return run_check(upload.path, self.limits, self.checks).report

    def _admit(
        self, upload: Upload, report: DatasetReport, fields: DatasetFields, *, owner: str
    ) -> tuple[Dataset, bool]:
        self.store.put_file(layout.dataset_archive(upload.sha256), upload.path, media_type="application/zip")
        self.store.put_bytes(
            layout.dataset_report(upload.sha256), report.model_dump_json().encode(), media_type="application/json"
        )
        # Recorded last: a record always has its bytes, and bytes without a record are found by their hash again.
        return self.datasets.add(
            name=fields.name or _display_name(PurePosixPath(upload.filename.replace("\\", "/")).stem),
            sha256=upload.sha256,
            num_bytes=upload.num_bytes,
            report=report,
            owner=owner,
            meta_use=bool(fields.meta_use),
            terms=fields.terms,
        )


def parse_fields(schema: type[Fields], fields: Mapping[str, object]) -> Fields:
    """Return what a body's fields make; a form's strings become numbers where numbers are due.

    Raises:
        InvalidRequestError: Names every field that is wrong, and where one is not known, those that are.
    """
    try:
        return schema.model_validate(dict(fields))
    except ValidationError as error:
        findings = error.errors(include_url=False)
        unknown = any(found["type"] == "extra_forbidden" for found in findings)
        raise InvalidRequestError(
            "the request cannot be accepted",
            findings=(_finding(found["loc"], found["msg"], found["input"]) for found in findings),
            todo=f"Known fields: {', '.join(schema.model_fields)}." if unknown else "Correct these fields.",
        ) from error


def _finding(place: tuple[int | str, ...], message: str, given: object) -> str:
    return f"{'.'.join(map(str, place))}: {message}, got {str(given)[:100]!r}"


def _display_name(name: str) -> str:
    return _UNPRINTABLE.sub("", name)[:MAX_NAME] or DATASET_FILE
