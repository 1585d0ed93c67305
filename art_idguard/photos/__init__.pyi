from .protect import protect_photo as protect_photo
