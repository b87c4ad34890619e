"""The command line: `apportion VERB ...`. One file in this folder is one verb.

A verb's file defines `command: click.Command`; its first docstring line is its line in `apportion --help`.
Files whose name starts with `_` are no verbs. Nothing is imported before a verb is called.
"""

from __future__ import annotations

from apportion.cli._group import VerbGroup
from apportion.cli._options import version_option

main = VerbGroup(
    name="apportion",
    subcommand_metavar="VERB ...",
    help="Run large language models inside a memory budget that you state.",
    epilog="Every verb has --help and --json. Shell completion: "
    'eval "$(_APPORTION_COMPLETE=bash_source apportion)" (or zsh_source, fish_source).',
    params=[version_option],
)
