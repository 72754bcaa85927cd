# FireRunner guest: the one place that knows where the three boot parameters come from.
#
# boot_parameters prints `machine_id=`, `gate_url=` and `credential=` lines, and fails if there are none.
# The network is up when it is called, so that a metadata service can be a source too.
# shellcheck shell=dash

boot_parameters() {
    load qemu_fw_cfg
    cat /sys/firmware/qemu_fw_cfg/by_name/opt/org.firerunner/boot/raw
}
