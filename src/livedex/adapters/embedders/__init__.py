"""What turns texts into vectors. One file is one kind; `local` also builds its own graph and fetches its weights."""
