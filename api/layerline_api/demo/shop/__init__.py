"""The shop: ``web`` asks ``stock``, ``stock`` asks ``prices``. Ordinary Flask services, with no word of Layerline."""
