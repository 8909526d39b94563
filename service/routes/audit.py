"""`/v1/audit`."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query

from service.http.auth import OperatorDependency
from service.http.problems import responses
from service.parts import PartsDependency
from service.routes.queries import Cursor, Limit
from service.schemas import AuditPage

router = APIRouter(prefix="/v1/audit", tags=["audit"])
OwnerName = Annotated[str | None, Query(max_length=64, description="Whose requests. Absent: everyone's.")]


@router.get(
    "", summary="Read the audit log", responses=responses(HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY)
)
def list_audit(
    parts: PartsDependency, _: OperatorDependency, owner: OwnerName = None, limit: Limit = 20, cursor: Cursor = None
) -> AuditPage:
    """Who asked for which change, and how it was answered: newest first, in parts. For operators."""
    items, following = parts.audit.page(owner=owner, limit=limit, cursor=cursor)
    return AuditPage(items=items, next_cursor=following)
