"""Monitors: saved questions that are asked again and again, and alerts for whom they hold.

``judge`` decides with the time passed in, ``keeper`` keeps monitors, alerts and what is to be told in the store,
``sources`` is where findings come from, ``preview`` asks about the past. Who sends is above (``layerline_api``).
"""
