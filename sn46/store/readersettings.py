"""The settings of who reads what is published: the bucket's store, and the keys to it or none."""

from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from sn46.store.s3 import S3Access


class ReaderSettings(BaseSettings):
    """Where published results lie, under the API server's own names, so an owner's ``.env``
    serves readers as well. Without keys, what the bucket's owner lets anyone read is read."""

    s3_endpoint_url: str | None = Field(None, description="the store; AWS itself without it")
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr = SecretStr("")
    s3_secret_key: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _both_keys(self) -> Self:
        if bool(self.s3_access_key.get_secret_value()) != bool(
            self.s3_secret_key.get_secret_value()
        ):
            raise ValueError(
                "S3_ACCESS_KEY and S3_SECRET_KEY go together; without both, what the bucket's "
                "owner lets anyone read is read"
            )
        return self

    def access(self) -> S3Access:
        """The store, with the keys that are set or as anyone.

        Raises:
            StoreError: where the endpoint is no address.
        """
        access_key = self.s3_access_key.get_secret_value()
        return S3Access(
            endpoint=self.s3_endpoint_url or "",
            region=self.s3_region,
            access_key=access_key,
            secret_key=self.s3_secret_key.get_secret_value(),
            public=not access_key,
        )
