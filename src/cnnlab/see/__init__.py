"""What a trained network sees: filters, feature maps, most selective units, attribution of its decisions."""

FIGURES = (
    "filters",
    "maps",
    "patches",
    "maximised",
    "attribution",
    "tuning",
    "place",
    "plane",
    "fields",
)  # of a portrait
