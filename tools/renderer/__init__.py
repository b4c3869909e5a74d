"""A small renderer of photos with exact boxes: the photos of the demo, and endless random scenes.

Things are signed distance fields, which rays are followed to; everything is numpy on one core
and depends on a seed alone. In the order the data flows:

    fields       forms as functions: distance to a surface
    materials    colours, patterns in space, gloss
    solids       fields with paints, and their place in a scene
    forms, household, nature, birds     the families of things; families lists them
    camera       the rays of a photo's pixels and what they meet
    light        sun, sky, shadows, highlights
    surroundings, mipmap, room          floors, walls and what is far behind
    photograph   lens, movement, noise, tones, JPEG
    scene        random scenes: :func:`render_scene`
    ducks        the photos of the demo: :func:`render_ducks`
"""

from renderer.ducks import render_ducks
from renderer.scene import RenderedScene, render_scene

__all__ = ["RenderedScene", "render_ducks", "render_scene"]
