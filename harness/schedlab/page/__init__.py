# SPDX-License-Identifier: GPL-2.0-only
"""Pages: what a run found, as one HTML file, as Markdown, and as SVG.  Shows; judges nothing.

``svg`` draws, ``document`` lays out, and each kind of run has a module that says what is shown.
Everything is a function of the run's JSON: the same JSON gives the same bytes.
"""
