package forks

import (
	"bytes"
	"context"
	"encoding/json"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

var _ = Describe("A node whose templates are not usable", Label("vm", twin.NeedsFork), Ordered, func() {
	var (
		own *twin.Twin
		dir string
	)
	twin.KeepEvidence(func() *twin.Twin { return own })

	// serve has one more guest serve and returns how it came to life and, when it should have been a fork and is not, why.
	serve := func(ctx context.Context) (how, reason string) {
		GinkgoHelper()
		id := own.Backends(1)[0]
		Eventually(own.Stage).WithContext(ctx).WithArguments(id).WithTimeout(own.BootTimeout()).Should(Equal("serving"))
		events, err := own.Events()
		Expect(err).NotTo(HaveOccurred())
		for _, ev := range events {
			if ev.Subject != id || ev.Kind != "guest.milestone" {
				continue
			}
			switch ev.Attributes["stage"] {
			case "machine-started":
				how = ev.Attributes["guests"]
			case "fork-failed":
				reason = ev.Attributes["reason"]
			}
		}
		return how, reason
	}
	// damage does something to all templates while no node runs.
	damage := func(how func(folder string)) {
		GinkgoHelper()
		var folders []string
		Eventually(func() int {
			folders = slices.DeleteFunc(templateFolders(dir), func(folder string) bool { return !whole(folder) })
			return len(folders)
		}).WithTimeout(own.BootTimeout()).WithPolling(time.Second/2).Should(Equal(2), "a whole template for each image")
		own.KillNode()
		for _, folder := range folders {
			how(folder)
		}
		own.StartNode()
	}

	BeforeAll(func(ctx context.Context) {
		dir = filepath.Join(GinkgoT().TempDir(), "templates")
		own = twin.StartCloud(twin.NodeFlags("--templates", dir))
		own.StartNode()
		how, _ := serve(ctx)
		Expect(how).To(Equal("fork"))
	})

	DescribeTable(
		"makes one again that is damaged, and forks it",
		func(ctx context.Context, how func(folder string)) {
			made := map[string]int64{}
			damage(func(folder string) {
				how(folder)
				made[folder] = 0
				if _, err := os.Stat(filepath.Join(folder, "state")); err == nil {
					made[folder] = modified(filepath.Join(folder, "state"))
				}
			})
			how1, reason := serve(ctx)
			Expect(how1).To(Equal("fork"), reason)
			again := 0
			for folder, before := range made {
				state := filepath.Join(folder, "state")
				if _, err := os.Stat(state); err == nil && modified(state) > before {
					again++
				}
			}
			Expect(again).To(BeNumerically(">=", 1), "templates that were made again")
		},
		Entry("memory overwritten", Label("slow"), func(folder string) {
			alter(filepath.Join(folder, "memory"), func(memory []byte) []byte { return rot(memory) })
		}),
		Entry("state cut short", Label("slow"), func(folder string) {
			alter(filepath.Join(folder, "state"), func(state []byte) []byte { return state[:len(state)/2] })
		}),
		Entry(
			"note gone",
			Label("slow"),
			func(folder string) { Expect(os.Remove(filepath.Join(folder, "template.json"))).To(Succeed()) },
		),
	)

	fellBack := 0

	It("boots a guest cold whose fork QEMU refuses, tells why, and makes the template again", Label("slow"), func(
		ctx context.Context,
	) {
		// A state says of which machine type it is; another QEMU has another newest one.
		damage(func(folder string) {
			forge(folder, "state", func(state []byte) []byte {
				Expect(bytes.Contains(state, []byte("pc-i440fx-"))).To(BeTrue())
				return bytes.ReplaceAll(state, []byte("pc-i440fx-"), []byte("pc-i441fx-"))
			})
		})
		how, reason := serve(ctx)
		Expect(how).To(Equal("cold"))
		Expect(reason).To(ContainSubstring("template not usable"))
		fellBack++
		how, reason = serve(ctx)
		Expect(how).To(Equal("fork"), reason)
	})

	It("boots a guest cold whose fork never becomes ready, and tells why", func(ctx context.Context) {
		damage(func(folder string) {
			forge(folder, "memory", func(memory []byte) []byte { return make([]byte, len(memory)) })
		})
		how, reason := serve(ctx)
		Expect(how).To(Equal("cold"))
		Expect(reason).NotTo(BeEmpty()) // without its memory it is silent or powers off
		fellBack++
	})

	It("tells the cloud of every fork that failed", func() {
		events, err := own.Events()
		Expect(err).NotTo(HaveOccurred())
		failed := 0
		for _, ev := range events {
			if isForkFailed(ev) {
				failed++
			}
		}
		Expect(failed).To(Equal(fellBack))
	})
})

func isForkFailed(ev journal.Event) bool {
	return ev.Kind == "guest.milestone" && ev.Attributes["stage"] == "fork-failed"
}

// alter changes a file's content.
func alter(path string, change func([]byte) []byte) {
	GinkgoHelper()
	content, err := os.ReadFile(path)
	Expect(err).NotTo(HaveOccurred())
	// Guests that run have the old file as their memory.
	Expect(os.WriteFile(path+".new", change(content), 0o600)).To(Succeed())
	Expect(os.Rename(path+".new", path)).To(Succeed())
}

// rot changes a byte in every page.
func rot(memory []byte) []byte {
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] ^= 0x5a
	}
	return memory
}

// fileNote is what a template's note says of a file.
type fileNote struct {
	Size     int    `json:"size"`
	Checksum uint32 `json:"crc32c"`
}

func describe(content []byte) fileNote {
	return fileNote{len(content), crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli))}
}

// whole tells whether a template's files are those of its note.
func whole(folder string) bool {
	text, err := os.ReadFile(filepath.Join(folder, "template.json"))
	var note struct{ Memory, State fileNote }
	if err != nil || json.Unmarshal(text, &note) != nil {
		return false
	}
	memory, err := os.ReadFile(filepath.Join(folder, "memory"))
	if err != nil || describe(memory) != note.Memory {
		return false
	}
	state, err := os.ReadFile(filepath.Join(folder, "state"))
	return err == nil && describe(state) == note.State
}

// forge changes a file of a template and the note, so that the node finds nothing wrong with it.
func forge(folder, name string, change func([]byte) []byte) {
	GinkgoHelper()
	var content []byte
	alter(filepath.Join(folder, name), func(before []byte) []byte {
		content = change(before)
		return content
	})
	alter(filepath.Join(folder, "template.json"), func(text []byte) []byte {
		note := map[string]json.RawMessage{}
		Expect(json.Unmarshal(text, &note)).To(Succeed())
		var err error
		note[name], err = json.Marshal(describe(content))
		Expect(err).NotTo(HaveOccurred())
		text, err = json.Marshal(note)
		Expect(err).NotTo(HaveOccurred())
		return text
	})
}
