"""A private certification authority and server certificates, for tests."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs what a test's servers show."""

    file: Path
    """Its own certificate, PEM."""
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def server(self, directory: Path, names: Sequence[str], *, expired: bool = False) -> tuple[Path, Path]:
        """A certificate for these names and addresses: the files of the chain and of the key."""
        key = ec.generate_private_key(ec.SECP256R1())
        found = x509.SubjectAlternativeName([_name(name) for name in names])
        certificate = (
            _unsigned(names[0], self.certificate.subject, key, days=-0.5 if expired else 10)
            .add_extension(found, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        chain, secret = directory / f"{names[0]}.pem", directory / f"{names[0]}.key"
        chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return chain, secret


def authority(directory: Path) -> Authority:
    """A new one, its certificate in `ca.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A private authority")])
    certificate = (
        _unsigned("A private authority", subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / "ca.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(file, certificate, key)


def _unsigned(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: float = 10
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + days * DAY)
    )


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
