"""The JSON bodies of the profile routes, as OpenAPI describes them; nothing behind the rim knows these classes."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from calibration.profiles import Consent, HeadRecord, Profile, TakeRecord

_DIGEST = "^[0-9a-f]{64}$"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ConsentBody(_Body):
    """What a wearer agreed to, and until when."""

    version: str = Field(description="Of the text that the wearer was shown.")
    given_unix_s: int
    keep_takes: bool = Field(description="Whether recordings may outlive the calibration that they were made for.")
    retention_days: int = Field(description="How long a kept take stays.")
    withdrawn_unix_s: int | None = Field(description="null while the consent holds.")


class HeadBody(_Body):
    """One head of a wearer."""

    version: int = Field(ge=1, description="Counts from 1; the number of a deleted head is never given again.")
    parent: int | None = Field(description="Version that it was fitted from; 0 is the bundle's.")
    live: bool = Field(description="Whether it answers for the wearer.")
    serves: bool = Field(description="Whether it was fitted for the backbones of the bundle that is served.")
    created_unix_s: int
    digest: str = Field(pattern=_DIGEST, description="sha256 of its file.")
    byte_count: int
    report: dict[str, Any] = Field(description="What held-out takes said of it.")


class TakeBody(_Body):
    """One recording that the wearer chose to keep."""

    number: int
    cue: str
    recorded_unix_s: int
    delete_after_unix_s: int
    byte_count: int


class ProfileBody(_Body):
    """All that is known of one wearer."""

    wearer: str
    created_unix_s: int
    live_version: int = Field(ge=0, description="Of the head chosen for this wearer; 0 is the bundle's.")
    serving_version: int = Field(
        ge=0, description="Of the head that answers; 0 in place of a chosen one that this bundle cannot use."
    )
    heads: list[HeadBody]
    takes: list[TakeBody]
    consents: list[ConsentBody] = Field(description="Oldest first; at most the last one holds.")


class HeadsBody(_Body):
    """Every head of a wearer, oldest first."""

    heads: list[HeadBody]


class WearersBody(_Body):
    """Who has a profile here."""

    wearers: list[str]


def profile_body(profile: Profile, serving_version: int, backbone_digest: str) -> ProfileBody:
    """The profile as it is sent."""
    return ProfileBody(
        wearer=profile.wearer,
        created_unix_s=profile.created_unix_s,
        live_version=profile.live_version,
        serving_version=serving_version,
        heads=head_bodies(profile, backbone_digest),
        takes=[_take_body(take) for take in profile.takes],
        consents=[_consent_body(consent) for consent in profile.consents],
    )


def head_bodies(profile: Profile, backbone_digest: str) -> list[HeadBody]:
    """The heads of a profile as they are sent."""
    return [_head_body(head, profile.live_version, backbone_digest) for head in profile.heads]


def _head_body(head: HeadRecord, live_version: int, backbone_digest: str) -> HeadBody:
    return HeadBody(
        version=head.version,
        parent=head.parent,
        live=head.version == live_version,
        serves=head.backbone_digest == backbone_digest,
        created_unix_s=head.created_unix_s,
        digest=head.digest,
        byte_count=head.byte_count,
        report=dict(head.report),
    )


def _take_body(take: TakeRecord) -> TakeBody:
    return TakeBody(
        number=take.number,
        cue=take.cue,
        recorded_unix_s=take.recorded_unix_s,
        delete_after_unix_s=take.delete_after_unix_s,
        byte_count=take.byte_count,
    )


def _consent_body(consent: Consent) -> ConsentBody:
    return ConsentBody(
        version=consent.version,
        given_unix_s=consent.given_unix_s,
        keep_takes=consent.keep_takes,
        retention_days=consent.retention_days,
        withdrawn_unix_s=consent.withdrawn_unix_s,
    )
