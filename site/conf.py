"How Sphinx builds the site; `site/convert.py` writes what it reads."
from configparser import ConfigParser
from pathlib import Path
from shutil import copytree

ROOT = Path(__file__).parent.parent
settings = ConfigParser(delimiters=['='])
settings.read(ROOT/'settings.ini', encoding='utf-8')
settings = settings['DEFAULT']

project = html_title = settings['title']
author, copyright, release = settings['author'], settings['copyright'], settings['version']
language = 'en'

# MathJax comes with the site, so that no page needs the network.
extensions = ['myst_nb', 'sphinx_copybutton', 'sphinx.ext.mathjax', 'sphinx-mathjax-offline']
nb_execution_mode = 'off'
myst_enable_extensions = ['dollarmath', 'amsmath', 'deflist', 'colon_fence']
myst_heading_anchors = 3

html_theme = 'sphinx_book_theme'
html_theme_options = {'use_download_button': False, 'use_fullscreen_button': False, 'show_toc_level': 2,
                      'pygments_light_style': 'a11y-high-contrast-light', 'pygments_dark_style': 'a11y-high-contrast-dark'}
html_context = {'default_mode': 'auto'} # light or dark as the reader's system has it, until they choose
html_sidebars = {'**': ['navbar-logo.html', 'sbt-sidebar-nav.html']}
html_favicon = ("data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'>"
                "<rect width='9' height='9' rx='2' fill='%230072B2'/><path d='M2 2l5 5M7 4v3h-3' stroke='white' fill='none'/></svg>")
html_static_path = ['style.css']
html_css_files = ['style.css']
html_use_index = False
html_copy_source = False
html_show_sourcelink = False
exclude_patterns = ['figures']


def setup(app):
    "Beside the pages lie the modules of their figures, and their notebooks to download."
    def copy(app, problem):
        for folder in 'figures', 'notebooks': copytree(ROOT/'_proc'/folder, Path(app.outdir)/folder, dirs_exist_ok=True)
    app.connect('build-finished', copy)
