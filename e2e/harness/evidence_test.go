package harness

import (
	"archive/zip"
	"context"
	"io"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

// filesIn are the files of a bundle of the twin's, by name.
func filesIn(ctx context.Context, g Gomega) map[string]string {
	path := filepath.Join(GinkgoT().TempDir(), "bundle.zip")
	_, err := cloud.Bundle(ctx, path)
	g.Expect(err).NotTo(HaveOccurred())
	archive, err := zip.OpenReader(path)
	g.Expect(err).NotTo(HaveOccurred())
	defer func() { _ = archive.Close() }()
	files := map[string]string{}
	for _, f := range archive.File {
		r, err := f.Open()
		g.Expect(err).NotTo(HaveOccurred())
		text, err := io.ReadAll(r)
		g.Expect(err).NotTo(HaveOccurred())
		files[f.Name] = string(text)
	}
	return files
}

// expectEvidence waits until a bundle has of a guest what there must be: of one that runs, what libvirt has of it now;
// of one that ended, what it had then.
func expectEvidence(ctx context.Context, instance string, ended bool) {
	GinkgoHelper()
	want := map[string]string{
		"guests/" + instance + "/console.log": `"stage":"serving"`, "topology.json": instance, "store.json": instance,
		"logs/cloud.log": "endpoint", "logs/node.log": "node-1", "manifest.json": `"program"`,
	}
	if cloud.Mode != "sim" {
		want["images/web.json"] = "vmlinux"
	}
	if cloud.Mode != "sim" && ended {
		want["guests/"+instance+"/domain.xml"] = "<domain type="
		want["guests/"+instance+"/qemu.log"] = "qemu-system"
	}
	Eventually(func(g Gomega) {
		files := filesIn(ctx, g)
		for name, text := range want {
			g.Expect(files).To(HaveKey(name))
			g.Expect(files[name]).To(ContainSubstring(text), name)
		}
		if cloud.Mode != "sim" && !ended {
			g.Expect(libvirtFiles(files, instance)).To(ContainElements(".xml", ".log"))
		}
	}).WithTimeout(twin.ChangeTimeout).Should(Succeed())
}

// libvirtFiles are the kinds of files of libvirt's on the node that name a guest.
func libvirtFiles(files map[string]string, instance string) (kinds []string) {
	for name, text := range files {
		if strings.HasPrefix(name, "logs/node-1/") && strings.Contains(name+text, instance) {
			kinds = append(kinds, filepath.Ext(name))
		}
	}
	return kinds
}
