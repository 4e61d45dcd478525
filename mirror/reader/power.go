package reader

import (
	"io/fs"
	"os"
	"strings"
)

// OnBattery reports whether the device runs on its battery now, as far as can be
// known: Linux alone tells, elsewhere it is false.
func OnBattery() bool { return onBattery(os.DirFS("/sys/class/power_supply")) }

// onBattery reads the power supplies as the kernel's
// Documentation/ABI/testing/sysfs-class-power has them.
func onBattery(supplies fs.FS) bool {
	list, err := fs.ReadDir(supplies, ".")
	if err != nil {
		return false
	}
	read := func(supply, name string) string {
		b, err := fs.ReadFile(supplies, supply+"/"+name)
		if err != nil || len(b) > 4096 { // a page, as sysfs has it
			return ""
		}
		return strings.TrimSpace(string(b))
	}
	discharging := false
	for _, s := range list {
		switch kind := read(s.Name(), "type"); {
		case kind == "Battery":
			// A mouse has one too; it says whose it is.
			discharging = discharging || read(s.Name(), "status") == "Discharging" && read(s.Name(), "scope") != "Device"
		case kind != "" && read(s.Name(), "online") == "1":
			return false // mains or USB
		}
	}
	return discharging
}
