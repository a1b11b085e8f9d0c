package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// coreChild has the test's program say what its children may dump, after it refused core dumps.
const coreChild = "CLOUDTWIN_TEST_CORE"

func TestMain(m *testing.M) {
	switch os.Getenv(coreChild) {
	case "":
		os.Exit(m.Run())
	case "limits":
		if err := refuseCoreDumps(); err != nil {
			panic(err)
		}
		// A child that is another program has the same limit.
		cmd := exec.Command("cat", "/proc/self/limits")
		cmd.Stdout = os.Stdout
		if err := cmd.Run(); err != nil {
			panic(err)
		}
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		if err != nil {
			panic(err)
		}
		if os.Geteuid() == 0 && dumpable != 0 {
			panic("root's process is dumpable")
		}
		os.Exit(0)
	}
}

func TestRefuseCoreDumps(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), coreChild+"=limits")
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	fields := []string{}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Max core file size") {
			fields = strings.Fields(strings.TrimPrefix(line, "Max core file size"))
		}
	}
	if len(fields) < 2 || (fields[0] != "0" && fields[0] != "1") || fields[0] != fields[1] {
		t.Errorf("a child's limits of core dumps are %v, want at most 1 byte, soft and hard", fields)
	}
}
