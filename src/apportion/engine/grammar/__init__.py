"""Structured output: answers held to a JSON schema, a regular expression or a grammar.

What is allowed next comes from llguidance, which is loaded with the first such request. Specifications are
untrusted: they are compiled first in a child process that may break (`check`), and their masks are computed
beside the model's own work (`matcher`).
"""

from apportion.engine.grammar.grammars import Grammars
from apportion.engine.grammar.matcher import Matcher
from apportion.engine.grammar.spec import Spec, spec_of

__all__ = ["Grammars", "Matcher", "Spec", "spec_of"]
