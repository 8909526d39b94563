"""From an upload to a dataset, and from a wish to a recorded adaptation. Nothing is kept of what is refused."""

from dataclasses import dataclass
from functools import partial
from typing import Final

from pydantic import Field

from search_spaces.errors import lookup
from search_spaces.registry import SPACES
from service.datasets.contents import ZIP, Contents
from service.datasets.names import display_name, name_of_file
from service.errors import InvalidRequestError
from service.http.fields import parse_fields
from service.http.idempotency import once
from service.http.uploads import Body, Upload
from service.priors.catalog import PriorCatalog
from service.quotas import Usage
from service.records.adaptations import AdaptationRecords
from service.records.datasets import DatasetRecords
from service.records.model import Adaptation, Dataset, DatasetEntry
from service.schemas import AdaptationForm, DatasetChange
from workers.adapt.plan import check_request
from workers.contracts.adaptations import NO_PRIOR, AdaptationRequest
from workers.tasks.archive import CheckedArchive, run_check
from workers.tasks.check_process import Checks
from workers.tasks.limits import ArchiveLimits

DATASET_FILE: Final = "dataset"


class DatasetFields(DatasetChange):
    """What a form may say of the dataset that it brings; a new one of which nothing is said is not learned from."""

    name: str | None = Field(None, description="Absent: the file's name, or that of the same bytes, uploaded before.")


@dataclass(frozen=True, kw_only=True)
class Intake:
    """Checks what comes in, keeps what is good, records it.

    Attributes:
        datasets: Records of datasets.
        adaptations: Records of adaptations.
        contents: Where archives go.
        priors: For the prior that a request names.
        limits: Of an archive.
        checks: The checks of archives that run.
    """

    datasets: DatasetRecords
    adaptations: AdaptationRecords
    contents: Contents
    priors: PriorCatalog
    limits: ArchiveLimits
    checks: Checks

    def add_dataset(self, body: Body, *, owner: str) -> tuple[DatasetEntry, bool]:
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
        name = display_name(fields.name) if fields.name else None
        fields = fields.model_copy(update={"name": name})
        dataset = self.datasets.find(upload.sha256, owner=owner)
        if dataset is None:
            dataset, is_new = self._admit(upload, self._check(upload, owner=owner), fields, owner=owner)
            if is_new:
                return self.datasets.entry(dataset.id, owner=owner), True
        return self.datasets.change(dataset.id, fields, owner=owner), False

    def add_adaptation(self, body: Body, *, owner: str, key: str | None = None) -> Adaptation:
        """Return the new adaptation that a body asks for; its dataset comes along, or is named by id.

        Everything is checked before anything is kept. The same body with the same `key` makes no second one.

        Raises:
            IdempotencyKeyReusedError: Another request had this key.
            QuotaExceededError: Its owner has as much as it may.
            InvalidRequestError: Fields that are not known, wrong values, both or neither way to give the dataset.
            NotFoundError: No such dataset.
            DatasetNotReadyError: It arrives, is being checked, or was refused.
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
            dataset = self.datasets.find(upload.sha256, owner=owner)
            if dataset is None:
                checked = self._check(upload, owner=owner)
                check_request(request, checked.report, card)
                dataset, _ = self._admit(upload, checked, DatasetFields(), owner=owner)
            else:
                check_request(request, dataset.report, card)
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

    def _check(self, upload: Upload, *, owner: str) -> CheckedArchive:
        self.datasets.require_room(Usage(num_bytes=upload.num_bytes), owner=owner)  # before the work that a check is
        return run_check(upload.path, self.limits, self.checks)

    def _admit(
        self, upload: Upload, checked: CheckedArchive, fields: DatasetFields, *, owner: str
    ) -> tuple[Dataset, bool]:
        put = partial(self.contents.store.put_file, path=upload.path, media_type=ZIP, hand_over=True)
        with self.contents.stored(upload.sha256, checked, num_bytes=upload.num_bytes, put=put):
            return self.datasets.add(
                name=fields.name or name_of_file(upload.filename),
                sha256=upload.sha256,
                num_bytes=upload.num_bytes,
                report=checked.report,
                findings=checked.findings,
                owner=owner,
                meta_use=bool(fields.meta_use),
                terms=fields.terms,
            )
