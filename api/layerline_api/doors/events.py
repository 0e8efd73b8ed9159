"""What a deploy marker may look like: our own shape, and those that GitHub and Argo CD send.

A marker becomes an event of the store. What the sender does not say of the service or its version is not guessed: a
webhook's URL can name the service (``?service=web``).

Sources: GitHub, "Webhook events and payloads" (``deployment``, ``deployment_status``, ``release``); Argo CD,
"Notifications", whose webhook template sends ``{"app": {{toJson .app}}}``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PlainValidator, Tag, WithJsonSchema

from layerline_api.declared import Body
from layerline_api.parameters import Instant
from layerline_correlator.store.model import attribute_text

DEPLOYED, STARTED, FAILED, RELEASED = "deployment", "deployment.started", "deployment.failed", "release"


@dataclass(frozen=True, slots=True)
class Marker:
    """An event as it will be stored."""

    time_ns: int
    name: str
    body: str
    attributes: dict[str, str] = field(default_factory=dict)


class Ignored(Exception):
    """What was sent is understood, and is no change; the message says why."""


def _attribute(value: object) -> str:
    if not isinstance(value, str | bool | int | float):
        raise ValueError("expected text, a number, true or false")
    return attribute_text(value)


AttributeValue = Annotated[
    str, PlainValidator(_attribute), WithJsonSchema({"type": ["string", "number", "boolean"]}, mode="validation")
]


class OwnMarker(Body):
    """A change, as `layerline event` sends it. With its time it may be sent again: it counts once."""

    name: Annotated[str, Field(min_length=1, max_length=200, description="what kind of event")] = DEPLOYED
    body: Annotated[str, Field(min_length=1, max_length=10_000, description="what happened, for people")]
    time: Annotated[Instant | None, Field(description="when, RFC 3339 with zone; now unless said")] = None
    attributes: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=200)], AttributeValue],
        Field(default_factory=dict, max_length=100, description="such as service.name and service.version"),
    ]

    def marker(self) -> Marker:
        when_ns = time.time_ns() if self.time is None else self.time
        return Marker(when_ns, self.name, self.body, self.attributes)


class Sent(BaseModel):
    """A part of what others send; they may send more."""

    model_config = ConfigDict(frozen=True)


class GitHubRepository(Sent):
    full_name: str
    html_url: str | None = None


class GitHubDeployment(Sent):
    id: int
    sha: str
    ref: str
    environment: str
    created_at: Instant


class GitHubStatus(Sent):
    state: str
    created_at: Instant


class GitHubDeploymentHook(Sent):
    """GitHub's event `deployment`: a deploy was asked for."""

    deployment: GitHubDeployment
    repository: GitHubRepository

    def marker(self) -> Marker:
        return self.told(STARTED, "deploy of", self.deployment.created_at)

    def told(self, name: str, verb: str, time_ns: int, **more: str) -> Marker:
        repository, deployment = self.repository, self.deployment
        return Marker(
            time_ns,
            name,
            f"{verb} {repository.full_name} {deployment.ref} to {deployment.environment}",
            _given(
                {
                    "deployment.id": str(deployment.id),
                    "deployment.environment.name": deployment.environment,
                    "vcs.repository.name": repository.full_name,
                    "vcs.repository.url.full": repository.html_url,
                    "vcs.ref.head.name": deployment.ref,
                    "vcs.ref.head.revision": deployment.sha,
                    **more,
                }
            ),
        )


class GitHubStatusHook(GitHubDeploymentHook):
    """GitHub's event `deployment_status`: how a deploy went."""

    deployment_status: GitHubStatus

    def marker(self) -> Marker:
        status = self.deployment_status
        if status.state == "success":
            return self.told(DEPLOYED, "deployed", status.created_at, **{"deployment.status": "succeeded"})
        if status.state in ("failure", "error"):
            return self.told(FAILED, "failed to deploy", status.created_at, **{"deployment.status": "failed"})
        raise Ignored(f"the deployment's state is {status.state[:80]!r}: it is neither done nor failed")


class GitHubRelease(Sent):
    tag_name: str
    published_at: Instant | None = None


class GitHubReleaseHook(Sent):
    """GitHub's event `release`: a version was published, which need not be running anywhere yet."""

    action: str
    release: GitHubRelease
    repository: GitHubRepository

    def marker(self) -> Marker:
        if self.action != "published" or self.release.published_at is None:
            raise Ignored(f"the release was {self.action[:80]}, not published")
        version, repository = self.release.tag_name, self.repository
        return Marker(
            self.release.published_at,
            RELEASED,
            f"released {repository.full_name} {version}",
            _given(
                {
                    "service.version": version,
                    "vcs.repository.name": repository.full_name,
                    "vcs.repository.url.full": repository.html_url,
                    "vcs.ref.head.name": version,
                }
            ),
        )


class GitHubOtherHook(Sent):
    """Any other event of GitHub's, `ping` for one: taken, and not kept."""

    zen: str | None = None
    sender: dict[str, Any] | None = None

    def marker(self) -> Marker:
        raise Ignored("it tells of no deploy and no release")


class ArgoMetadata(Sent):
    name: str
    namespace: str | None = None


class ArgoResult(Sent):
    revision: str | None = None


class ArgoOperation(Sent):
    phase: str
    startedAt: Instant | None = None
    finishedAt: Instant | None = None
    syncResult: ArgoResult | None = None


class ArgoStatus(Sent):
    operationState: ArgoOperation
    sync: ArgoResult | None = None


class ArgoApp(Sent):
    metadata: ArgoMetadata
    status: ArgoStatus


class ArgoHook(Sent):
    """An application of Argo CD, as its notification template sends it: `{"app": {{toJson .app}}}`."""

    app: ArgoApp

    def marker(self) -> Marker:
        app, operation = self.app.metadata, self.app.status.operationState
        name, verb, at_ns = {
            "Succeeded": (DEPLOYED, "synced", operation.finishedAt),
            "Failed": (FAILED, "failed to sync", operation.finishedAt),
            "Error": (FAILED, "failed to sync", operation.finishedAt),
            "Running": (STARTED, "sync of", operation.startedAt),
        }.get(operation.phase, (None, "", None))
        if name is None or at_ns is None:
            raise Ignored(f"the operation's phase is {operation.phase[:80]!r}, or it does not say when")
        result = operation.syncResult or self.app.status.sync
        revision = result.revision if result else None
        return Marker(
            at_ns,
            name,
            f"{verb} {app.name}{f' {revision}' if revision else ''}",
            _given(
                {
                    "argocd.application.name": app.name,
                    "argocd.application.namespace": app.namespace,
                    "deployment.status": {DEPLOYED: "succeeded", FAILED: "failed"}.get(name),
                    "vcs.ref.head.revision": revision,
                }
            ),
        )


def _shape(sent: Any) -> str:
    """Which of the shapes it is, by what only that one has. In parentheses: it is no field of what was sent."""
    keys = sent.keys() if isinstance(sent, dict) else ()
    if "app" in keys:
        return "(argo)"
    if "repository" in keys or "zen" in keys:
        for key in ("deployment_status", "deployment", "release"):
            if key in keys:
                return f"({key})"
        return "(other)"
    return "(own)"


AnyMarker = Annotated[
    Annotated[OwnMarker, Tag("(own)")]
    | Annotated[GitHubStatusHook, Tag("(deployment_status)")]
    | Annotated[GitHubDeploymentHook, Tag("(deployment)")]
    | Annotated[GitHubReleaseHook, Tag("(release)")]
    | Annotated[GitHubOtherHook, Tag("(other)")]
    | Annotated[ArgoHook, Tag("(argo)")],
    Discriminator(_shape),
]


def _given(attributes: dict[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in attributes.items() if value}
