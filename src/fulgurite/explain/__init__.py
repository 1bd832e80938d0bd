"""Words about knobs, for people and for programs: `fulgurite explain`. Loads no torch, no transformers, no Hydra."""

from fulgurite.explain.knob_index import build_entries as build_entries
from fulgurite.explain.pages import build_group_page as build_group_page
from fulgurite.explain.pages import build_knob_page as build_knob_page
from fulgurite.explain.pages import build_option_page as build_option_page
from fulgurite.explain.pages import build_overview as build_overview
from fulgurite.explain.search import search as search
