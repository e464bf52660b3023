"""``recstream doctor``: check a set-up."""

from __future__ import annotations

import typer

from recstream.cli.options import ConfigFile, Overrides, Store, load_settings
from recstream.cli.output import stdout_console

__all__ = ["command"]


def command(config: ConfigFile = None, store: Store = None, overrides: Overrides = None) -> None:
    """Check settings, broker, topics, model, store and cache: what is wrong, and how to mend it."""
    from recstream.operations.doctor import diagnose

    findings = diagnose(lambda: load_settings(config, overrides, store=store))
    console = stdout_console()
    for finding in findings:
        sign = "[green]ok  [/]" if finding.ok else "[bold red]BAD [/]"
        console.print(f"{sign} {finding.name}: ", end="")
        console.print(finding.detail, markup=False)
        if not finding.ok and finding.mend:
            console.print(f"       mend: {finding.mend}", markup=False)
    bad = sum(not finding.ok for finding in findings)
    console.print("all is well" if not bad else f"{bad} of {len(findings)} checks failed")
    if bad:
        raise typer.Exit(1)
