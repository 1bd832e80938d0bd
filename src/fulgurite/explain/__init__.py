"""Words about knobs, for people and for programs: `fulgurite explain`. Loads no torch, no transformers, no Hydra."""

from fulgurite.explain.knob_index import as_json as as_json
from fulgurite.explain.pages import group_page as group_page
from fulgurite.explain.pages import knob_page as knob_page
from fulgurite.explain.pages import option_page as option_page
from fulgurite.explain.pages import overview as overview
from fulgurite.explain.search import search as search
