#!/bin/bash
# Certificates for hosts and for FireRunner, by an authority of your own, with openssl.
#
#   certificates.sh ca DIR                  make the authority: DIR/ca.pem, DIR/ca.key (keep the key off the hosts)
#   certificates.sh host DIR NAME [NAME...] a host's: DIR/NAME.pem, DIR/NAME.key; names and addresses it is called by
#   certificates.sh client DIR NAME         what FireRunner shows to the hosts: DIR/NAME.pem, DIR/NAME.key
#   certificates.sh gate DIR NAME [NAME...] the gate's, for guests: `gate_cert_file`, `gate_key_file`
#
# `gate_ca_file` and the hosts' `tls.ca_file` are DIR/ca.pem.
#
# Nothing that is there is overwritten. Valid for ten years (authority) and two years (the others).
set -euo pipefail
umask 077

main() {
    [ $# -ge 2 ] || { sed -n '2,11s/^# \?//p' "$0"; exit 2; }
    local kind=$1 directory=$2
    shift 2
    mkdir -p "$directory"
    cd "$directory"
    case $kind in
        ca) authority ;;
        host | gate) certificate serverAuth "$@" ;;
        client) certificate clientAuth "$@" ;;
        *) die "there is no $kind" "ca, host, client, gate" ;;
    esac
}

die() { # WHAT REMEDY
    echo "certificates.sh: $1. $2" >&2
    exit 1
}

new_key() { # FILE
    [ ! -e "$1" ] || die "$1 is there" "Remove it if it shall be made anew"
    openssl ecparam -name prime256v1 -genkey -noout -out "$1"
}

authority() {
    new_key ca.key
    openssl req -x509 -new -key ca.key -days 3650 -subj "/CN=FireRunner hosts" -out ca.pem \
        -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign
    chmod 644 ca.pem
}

certificate() { # USAGE NAME [NAME...]
    local usage=$1 name=$2 each alternatives=''
    [ -e ca.key ] || die "there is no ca.key in $PWD" "certificates.sh ca $PWD"
    shift
    for each in "$@"; do
        if [[ $each =~ ^[0-9.]+$|: ]]; then alternatives+=",IP:$each"; else alternatives+=",DNS:$each"; fi
    done
    new_key "$name.key"
    openssl req -new -key "$name.key" -subj "/CN=$name" |
        openssl x509 -req -CA ca.pem -CAkey ca.key -days 730 -out "$name.pem" -extfile <(
            echo "subjectAltName=${alternatives#,}"
            echo "extendedKeyUsage=$usage"
            echo "keyUsage=critical,digitalSignature"
            echo "basicConstraints=critical,CA:FALSE"
        ) 2> /dev/null
    chmod 644 "$name.pem"
}

main "$@"
