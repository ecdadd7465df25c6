"""The documentation: `pip install -e '.[docs]'`, `sphinx-build --fail-on-warning docs site`, and open site/index.html.

Whatever is not as it should be is a warning: a link that leads nowhere, a page in no table of contents, a name that is
gone. Pages open from disk, search included, and load nothing from elsewhere.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "hooks"))

project = author = "igniter-opt"
project_copyright = "the igniter-opt developers"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    # Ours, in docs/hooks.
    "contents",
    "formulas",
    "links",
    "pictures",
    "reference",
    "repository",
]
contents = {
    "": ["tutorial"],
    "Guides": [
        "instance",
        "solve",
        "whatif",
        "traffic",
        "profile",
        "confidence",
        "robust",
        "report",
        "deploy",
        "kubernetes",
        "rehearse",
        "guard",
        "observe",
        "replan",
        "schedule",
        "serve",
        "container",
        "ci",
    ],
    "Background": ["model", "limits", "benchmarks"],
    "Reference": ["cli", "formats", "api"],
    "Contribute": ["house", "extend"],
}
exclude_patterns = ["images/SOURCES.md"]

myst_enable_extensions = ["attrs_inline", "dollarmath"]
myst_heading_anchors = 4
highlight_language = "none"

# Docstrings are numpydoc; a name between single backticks is code.
default_role = "code"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "igniter-opt"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
