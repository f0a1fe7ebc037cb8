"""What beat does in the console. Installed with django-celery-beat, where there is a broker."""
