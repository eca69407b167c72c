"""The released scheduler will not start without a Redis client. This one remembers nothing and is never there."""


class Forgetful:
    @classmethod
    def from_url(cls, *args, **kwargs):
        return cls()

    def __getattr__(self, name):
        return lambda *args, **kwargs: None
