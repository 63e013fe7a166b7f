"""A FastAPI application that starts in seven phases, as the observed one does."""
