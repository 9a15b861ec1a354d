# -*- test-case-name: tests.jobs.test_log_lines -*-
"""
The log lines of jobs that have ended and of attempts that failed, with all that is known of
them as fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from xferd.interfaces.job_json import JobJSON
from xferd.jobs.disk_space.sizes import in_words
from xferd.jobs.job import Job
from xferd.jobs.timing import PHASES

ENDED: Final = "{kind} of {image} for {client}: {outcome}; job {job}{details}"
"""The format of the line of a job that has ended."""

FAILED: Final = (
    "attempt {attempt} of {kind} {digest}, {source}, failed after {seconds} s and {bytes_moved} bytes: "
    "{error} ({code}){details}"
)
"""The format of the line of an attempt that failed."""


def ended_fields(job: Job, record: JobJSON, cancelled_by: str) -> dict[str, Any]:
    """
    The fields of L{ENDED}.

    @param record: the job's record.
    @param cancelled_by: the user that cancelled it; empty if there was none, or it is unknown.
    """
    error, result, timing = record["error"], record["result"] or {}, record["timing"]
    outcome = record["state"]
    if error is not None:
        outcome = f"{outcome}: {error['message']} ({error['code']})"
    elif outcome == "cancelled" and cancelled_by:
        outcome = f"{outcome} by {cancelled_by}"
    user, door, digest = job.request.owner, job.request.door, result.get("digest", "")
    details = [f" of {user}" if user else "", f" by {door}" if door else ""]
    details += [f", to {job.target}" if job.target else "", f", {digest}" if digest else ""]
    fields: dict[str, Any] = {
        "event": "job-ended",
        "job": job.id,
        "kind": job.kind,
        "client": job.client,
        "user": user,
        "door": door,
        "state": record["state"],
        "cancelled_by": cancelled_by,
        "image": job.label,
        "reference": job.reference,
        "target": job.target,
        "digest": digest,
        "code": None if error is None else error["code"],
        "error": None if error is None else error["message"],
        "outcome": outcome,
    }
    if timing is not None:
        sizes = {
            "received": timing["bytes_received"],
            "sent": timing["bytes_sent"],
            "saved": timing["bytes_saved"],
        }
        bound = timing["bound"]
        phases = {phase: timing["phases"].get(phase, 0.0) for phase in PHASES}
        spent = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in phases.items() if seconds >= 0.05)
        details.append(f", {timing['seconds']:.1f} s" + (f" ({spent})" if spent else ""))
        details += [f", {in_words(size)} {way}" for way, size in sizes.items() if size]
        details.append(f", {in_words(round(timing['rate']))}/s" if timing["rate"] else "")
        details.append("" if bound is None else f"; {bound['text']}")
        fields |= {f"bytes_{way}": size for way, size in sizes.items()}
        fields |= {f"seconds_{phase}": seconds for phase, seconds in phases.items()}
        fields |= {
            "rate": timing["rate"],
            "seconds": timing["seconds"],
            "bound_by": None if bound is None else bound["by"],
            "verdict": None if bound is None else bound["text"],
        }
    return {**fields, "details": "".join(details)}


def failed_fields(record: Mapping[str, Any], jobs: Sequence[Job]) -> dict[str, Any]:
    """
    The fields of L{FAILED}.

    @param record: the attempt's, with times in seconds.
    @param jobs: the jobs that watch its transfer.
    """
    return {
        "event": "attempt-failed",
        **{name: record[name] for name in ("transfer", "kind", "digest", "source", "attempt")},
        **{name: record[name] for name in ("bytes_done", "bytes_moved", "code", "error")},
        "seconds": round(record["finished"] - record["started"], 3),
        "jobs": [job.id for job in jobs],
        "clients": sorted({job.client for job in jobs}),
        "references": sorted({job.reference for job in jobs if job.reference}),
        "targets": sorted({job.target for job in jobs if job.target}),
        "details": "".join(f"; job {job.id}, {_described(job)}" for job in jobs),
    }


def _described(job: Job) -> str:
    to = f" to {job.target}" if job.target else ""
    return f"{job.kind} of {job.label}{to} for {job.client}"
