# -*- test-case-name: tests.ctl.commands.test_listing -*-
"""
The commands of C{xferctl} that look, and C{cancel}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xferd.ctl.client import ENDED
from xferd.ctl.display.job_view import JobView, count
from xferd.ctl.text import clean, portion, seconds, short, size, time_of_day

if TYPE_CHECKING:
    from argparse import Namespace

    from xferd.ctl.session import Session


_ATTEMPT = ("ATTEMPT", "KIND", "DIGEST", "ENDED", "TOOK", "BYTES", "SOURCE", "OUTCOME")
_PAST = {"pull": "pulled", "push": "pushed", "copy": "copied", "import": "imported"}


def images(_: Namespace, session: Session) -> None:
    """
    List the images of the store.
    """
    found = session.daemon.images()
    rows = [
        (
            clean(image.get("reference")),
            short(image.get("digest")),
            short(image.get("image_id")),
            str(len(image.get("layers") or ())),
            size(count(image, "size")),
            session.printer.ago(image.get("created")),
            "pinned" if image.get("pinned") is True else "",
        )
        for image in found
    ]
    heads = ("REFERENCE", "DIGEST", "IMAGE ID", "LAYERS", "SIZE", "PULLED", "")
    session.printer.rows(found, heads, rows, ("LAYERS", "SIZE"))


def inspect(args: Namespace, session: Session) -> None:
    """
    Show one image of the store.
    """
    image = session.daemon.image(args.reference, args.platform)
    facts = [
        ("reference", clean(image.get("reference"))),
        ("digest", clean(image.get("digest"))),
        ("resolved", clean(image.get("resolved"))),
        ("source", clean(image.get("source"))),
        ("image ID", clean(image.get("image_id"))),
        ("platform", clean(image.get("platform"))),
        ("size", size(count(image, "size"))),
        ("pulled", session.printer.ago(image.get("created"))),
        ("pinned", "yes" if image.get("pinned") is True else ""),
    ]
    if session.printer.facts(image, facts):
        print(file=session.stdout)
        layers = image.get("layers") or ()
        rows = [
            (clean(layer.get("digest")), size(count(layer, "size")), clean(layer.get("media_type")))
            for layer in layers
        ]
        session.printer.rows(layers, ("LAYER", "SIZE", "TYPE"), rows, ("SIZE",))


def jobs(args: Namespace, session: Session) -> None:
    """
    List jobs: those that have not ended, or all.
    """
    if args.all:
        found = session.daemon.all_jobs()
    else:
        found = [job for job in session.daemon.jobs() if job.get("state") not in ENDED]
    rows = []
    for job in found:
        view = JobView(job)
        what = clean(job["error"].get("code")) if isinstance(job.get("error"), dict) else ""
        rows.append(
            (
                clean(job.get("id")),
                view.kind,
                view.state,
                view.title,
                what or (portion(view.done, view.total) if view.total else ""),
                clean(job.get("client")),
                session.printer.ago(job.get("created")),
            )
        )
    session.printer.rows(found, ("ID", "KIND", "STATE", "REFERENCE", "PROGRESS", "CLIENT", "CREATED"), rows)


def job(args: Namespace, session: Session) -> None:
    """
    Show one job with its layers or blobs, and the attempts behind them.
    """
    found = session.daemon.job(args.job)
    if found.get("transfers"):
        found["attempts"] = session.daemon.attempts(args.job)
    view = JobView(found)
    facts = [
        ("job", clean(found.get("id"))),
        ("kind", view.kind),
        ("state", view.state),
        ("reference", view.reference),
        ("target", view.target),
        ("platform", clean(found.get("platform"))),
        ("client", clean(found.get("client"))),
        ("created", session.printer.ago(found.get("created"))),
        ("started", session.printer.ago(found.get("started"))),
        ("finished", session.printer.ago(found.get("finished"))),
        ("progress", portion(view.done, view.total) if view.total else ""),
        (_PAST.get(view.kind, "gave"), view.pinned if view.state == "done" else ""),
        ("error", view.error),
        *(("warning", text) for text in view.warnings),
    ]
    if not session.printer.facts(found, facts):
        return
    if view.rows:
        print(file=session.stdout)
        rows = [
            (row.name, row.state, portion(row.done, row.total), clean(row.data.get("transfer")), row.why)
            for row in view.rows
        ]
        heads = (view.noun.upper(), "STATE", "PROGRESS", "TRANSFER", "WHY")
        session.printer.rows([row.data for row in view.rows], heads, rows)
    attempts = found.get("attempts") or ()
    if attempts:
        print(file=session.stdout)
        session.printer.rows(attempts, _ATTEMPT, list(map(_attempt, attempts)), ("ATTEMPT", "TOOK", "BYTES"))


def _attempt(attempt: dict[str, Any]) -> tuple[str, ...]:
    """
    An attempt in words.
    """
    code, error = clean(attempt.get("code")), clean(attempt.get("error"))
    return (
        str(count(attempt, "attempt")),
        clean(attempt.get("kind")),
        short(attempt.get("digest")),
        time_of_day(attempt.get("finished")),
        seconds(attempt.get("started"), attempt.get("finished")),
        size(count(attempt, "bytes_done")),
        clean(attempt.get("source")),
        f"{error} ({code})" if code else "done",
    )


def cancel(args: Namespace, session: Session) -> None:
    """
    Cancel a job.
    """
    found = session.daemon.cancel(args.job)
    session.printer.facts(found, [("job", clean(found.get("id"))), ("state", clean(found.get("state")))])


def transfers(_: Namespace, session: Session) -> None:
    """
    List transfers: what is moved at present, for whom, and what it waits for.
    """
    found = session.daemon.transfers()
    rows = []
    for item in found:
        rate = item.get("rate")
        rows.append(
            (
                clean(item.get("id")),
                clean(item.get("kind")),
                short(item.get("digest")),
                clean(item.get("state")),
                str(count(item, "watchers")),
                portion(count(item, "bytes_done"), count(item, "bytes_total")),
                f"{size(rate)}/s" if isinstance(rate, int | float) and rate > 0 else "",
                clean(item.get("source")),
                clean(item.get("why")),
            )
        )
    heads = ("ID", "KIND", "DIGEST", "STATE", "WATCHERS", "PROGRESS", "RATE", "SOURCE", "WHY")
    session.printer.rows(found, heads, rows, ("WATCHERS", "RATE"))


def status(_args: Namespace, session: Session) -> None:
    """
    Show how the daemon is, and what confines the processes of layers.
    """
    found = session.daemon.status()
    disk, states = _member(found, "disk"), _member(found, "jobs")
    sandbox = _member(found, "sandbox")
    in_force = sandbox.get("in_force")
    free = disk.get("free")
    facts = [
        ("version", clean(found.get("version"))),
        ("started", session.printer.ago(found.get("started"))),
        ("images", str(count(found, "images"))),
        (
            "jobs",
            ", ".join(f"{count(states, state)} {clean(state)}" for state in states) or "none",
        ),
        ("disk", f"{size(free)} free in {clean(disk.get('path'))}" if isinstance(free, int) else "unknown"),
        ("disk is full", clean(disk.get("why") or "")),
        ("sandbox", ", ".join(map(clean, in_force)) if isinstance(in_force, list) else "not known yet"),
    ]
    missing = _member(sandbox, "missing")
    facts += [(f"without {clean(measure)}", clean(why)) for measure, why in missing.items()]
    session.printer.facts(found, facts, width=max(len(name) for name, _ in facts) + 2)


def _member(value: dict[str, Any], name: str) -> dict[str, Any]:
    """
    An object in an object of the API; empty if it is not there.
    """
    member = value.get(name)
    return member if isinstance(member, dict) else {}
