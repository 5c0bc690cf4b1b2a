"""How a trained network sees: filters, answers layer by layer, what excites a unit, what a decision rests on."""
