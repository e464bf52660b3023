"""``recstream doctor``: check a set-up."""

from __future__ import annotations

import typer

from recstream.cli.options import ConfigFile, Overrides, Store, load_settings
from recstream.cli.output import stdout_console

__all__ = ["command"]


def command(config: ConfigFile = None, store: Store = None, overrides: Overrides = None) -> None:
    """Check settings, broker, topics, rights, model, store and positions: what is wrong, how to mend it.

    A warning is what the job runs with, and what had better be mended. Exit codes: 0 all is well, or warnings
    only, 1 a check failed.
    """
    from recstream.operations.doctor import diagnose

    findings = diagnose(lambda: load_settings(config, overrides, store=store))
    console = stdout_console()
    for finding in findings:
        sign = "[bold red]BAD [/]" if not finding.ok else "[green]ok  [/]"
        if finding.is_warning:
            sign = "[bold yellow]WARN[/]"
        console.print(f"{sign} {finding.name}: ", end="")
        console.print(finding.detail, markup=False)
        if finding.mend and (finding.is_warning or not finding.ok):
            console.print(f"       mend: {finding.mend}", markup=False)
    bad = sum(not finding.ok for finding in findings)
    warnings = sum(finding.is_warning for finding in findings)
    plural = "" if warnings == 1 else "s"
    well = f"all is well, but for {warnings} warning{plural}" if warnings else "all is well"
    console.print(well if not bad else f"{bad} of {len(findings)} checks failed")
    if bad:
        raise typer.Exit(1)
