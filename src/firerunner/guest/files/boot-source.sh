# FireRunner guest: the one place that knows where the three boot parameters come from.
#
# boot_parameters prints `machine_id=`, `gate_url=` and `credential=` lines, and fails if there are none:
# from the metadata service where there is one, else from QEMU's firmware configuration.
# shellcheck shell=dash

METADATA_MAC=aa:ff:00:00:00:01 # Flintlock infrastructure/microvm/firecracker/config.go
METADATA_CLIENT=169.254.0.1/16

boot_parameters() {
    if [ -n "$fr_metadata" ]; then
        metadata firerunner
        return
    fi
    load qemu_fw_cfg
    cat /sys/firmware/qemu_fw_cfg/by_name/opt/org.firerunner/boot/raw
}

metadata() { # ITEM
    wget -q -O - "http://$fr_metadata/latest/$1"
}

# The metadata service has a network device of its own, whose place among the others no VMM promises.
# Leaves the other one's name in guest_link.
open_metadata() {
    metadata_link='' guest_link=''
    for device in /sys/class/net/*; do
        read -r mac < "$device/address"
        case ${device##*/}/$mac in
            lo/*) ;;
            */"$METADATA_MAC") metadata_link=${device##*/} ;;
            *) guest_link=${device##*/} ;;
        esac
    done
    [ -n "$metadata_link" ] || die "no network device for the metadata service"
    [ -n "$guest_link" ] || die "no network device besides that of the metadata service"
    ip addr add "$METADATA_CLIENT" dev "$metadata_link"
    ip link set "$metadata_link" up
}

close_metadata() {
    ip link set "$metadata_link" down
    ip addr del "$METADATA_CLIENT" dev "$metadata_link"
}
