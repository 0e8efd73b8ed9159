"""The spans of a trace as a tree, with what failed in them; attributes, events, stack traces on unfolding; its logs."""

from __future__ import annotations

from flask import Blueprint, render_template

from layerline_api.declared import declared
from layerline_api.page.form import HTML
from layerline_api.parameters import OneTrace
from layerline_api.problems import Problem
from layerline_api.shared import Shared
from layerline_api.words.traces import tell


def add(blueprint: Blueprint, shared: Shared) -> None:
    """``/traces/<trace_id>``."""

    @blueprint.get("/traces/<trace_id>")
    @declared(None, OneTrace, problems=(404,), answers_in=(HTML,))
    def one_trace(asked: OneTrace) -> str:
        """The page of one trace: its spans and logs."""
        found = shared.questions.trace(asked.trace_id)
        if found is None:
            raise Problem(404, f"there is no trace {asked.trace_id}")
        return render_template("traces.html", trace=tell(found), trace_id=asked.trace_id)
