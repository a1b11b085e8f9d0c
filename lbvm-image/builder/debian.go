package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Limits of the tools that are run.
const (
	aptQueryTimeout    = time.Minute
	aptDownloadTimeout = 15 * time.Minute
	unpackTimeout      = 5 * time.Minute
)

// debianPackage is what apt says of a package.
type debianPackage struct {
	name, version, sha256 string
	depends               []string
}

// file is the name under which apt-get download stores it.
func (p debianPackage) file() string {
	return fmt.Sprintf("%s_%s_amd64.deb", p.name, strings.ReplaceAll(p.version, ":", "%3a"))
}

var (
	packageName   = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]{1,127}$`)
	packageDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// kernelName is a package with a kernel in it, as opposed to a meta package.
	kernelName = regexp.MustCompile(`^linux-image-\d`)
)

// resolveKernel follows a meta package (linux-image-amd64) to the package with the kernel in it.
func resolveKernel(ctx context.Context, name string) (debianPackage, error) {
	op := "find kernel package " + name
	if !packageName.MatchString(name) {
		return debianPackage{}, fail(op, fmt.Errorf("%w: malformed name", ErrNoKernelPackage), "give a Debian package name")
	}
	for range 3 { // a meta package may stand for another one
		p, err := queryPackage(ctx, name)
		if err != nil {
			return debianPackage{}, err
		}
		if kernelName.MatchString(p.name) {
			return p, nil
		}
		i := slices.IndexFunc(p.depends, func(d string) bool { return strings.HasPrefix(d, "linux-image-") })
		if i < 0 {
			break
		}
		name = p.depends[i]
	}
	return debianPackage{}, fail(op, fmt.Errorf("%w: it neither is nor names a kernel", ErrNoKernelPackage),
		"use "+DefaultKernelPackage)
}

func queryPackage(ctx context.Context, name string) (debianPackage, error) {
	op := "find package " + name
	out, err := runTool(ctx, aptQueryTimeout, "", "apt-cache", "show", "--no-all-versions", "--", name)
	if errors.Is(err, exec.ErrNotFound) {
		return debianPackage{}, fail(op, fmt.Errorf("%w: %w", ErrNoApt, err),
			"build on Debian or Ubuntu, or give --kernel and --modules")
	}
	if err != nil {
		return debianPackage{}, fail(op, fmt.Errorf("%w: %w", ErrNoKernelPackage, err),
			"run apt-get update, or give --kernel and --modules")
	}
	p, err := parsePackage(out)
	if err != nil {
		return debianPackage{}, fail(op, fmt.Errorf("%w: %w", ErrNoKernelPackage, err), "run apt-get update")
	}
	return p, nil
}

// parsePackage reads the first stanza of apt-cache show (deb822: "Field: value", folded lines start with a space).
func parsePackage(stanza []byte) (debianPackage, error) {
	var p debianPackage
	for line := range strings.Lines(string(stanza)) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		field, value, ok := strings.Cut(line, ":")
		if !ok || strings.HasPrefix(line, " ") {
			continue
		}
		value = strings.TrimSpace(value)
		switch field {
		case "Package":
			p.name = value
		case "Version":
			p.version = value
		case "SHA256":
			p.sha256 = value
		case "Depends":
			for d := range strings.SplitSeq(value, ",") {
				if fields := strings.Fields(d); len(fields) > 0 {
					p.depends = append(p.depends, fields[0])
				}
			}
		}
	}
	if !packageName.MatchString(p.name) || p.version == "" || strings.ContainsAny(p.version, "/ ") ||
		!packageDigest.MatchString(p.sha256) {
		return p, errors.New("apt's answer has no name, version and SHA-256")
	}
	return p, nil
}

// download gets the package into the cache folder unless it is there, and returns its path. apt checks the signature
// of its lists, and the file is compared with the SHA-256 in them.
func (b *build) download(ctx context.Context, p debianPackage) (string, error) {
	op := "download package " + p.name
	target := filepath.Join(b.cfg.CacheDir, p.file())
	if sum, err := fileSum(target); err == nil && sum.SHA256 == p.sha256 {
		return target, nil
	}
	b.cfg.Progress("downloading " + p.file())
	dir, err := os.MkdirTemp(b.cfg.CacheDir, tempPrefix)
	if err != nil {
		return "", fail(op, err, "")
	}
	defer os.RemoveAll(dir)
	if _, err := runTool(ctx, aptDownloadTimeout, dir, "apt-get", "download", "-qq", p.name+"="+p.version); err != nil {
		return "", fail(op, fmt.Errorf("%w: %w", ErrNoKernelPackage, err),
			"run apt-get update and check the network, or give --kernel and --modules")
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(found) != 1 {
		return "", fail(op, fmt.Errorf("%w: apt-get left %d files", ErrNoKernelPackage, len(found)), "")
	}
	sum, err := fileSum(found[0])
	if err != nil {
		return "", fail(op, err, "")
	}
	if sum.SHA256 != p.sha256 {
		err := fmt.Errorf("%w: the file's SHA-256 is %s, apt's list says %s", ErrNoKernelPackage, sum.SHA256, p.sha256)
		return "", fail(op, err, "run apt-get update")
	}
	return target, fail(op, os.Rename(found[0], target), "")
}

// unpack takes the kernel and the modules that a guest needs out of the package at deb, once, and returns where they
// are: a folder with vmlinuz and modules/, the latter laid out like lib/modules/RELEASE.
func (b *build) unpack(ctx context.Context, p debianPackage, deb string) (kernelPath, modulesDir string, err error) {
	op := "unpack " + filepath.Base(deb)
	target := filepath.Join(b.cfg.CacheDir, "package-"+shortSum(p.sha256, wantedDigest()))
	kernelPath, modulesDir = filepath.Join(target, "vmlinuz"), filepath.Join(target, "modules")
	if _, err := os.Stat(target); err == nil {
		return kernelPath, modulesDir, nil
	}
	b.cfg.Progress("unpacking " + filepath.Base(deb))
	tmp, err := os.MkdirTemp(b.cfg.CacheDir, tempPrefix)
	if err != nil {
		return "", "", fail(op, err, "")
	}
	defer os.RemoveAll(tmp)
	all, keep := filepath.Join(tmp, "all"), filepath.Join(tmp, "keep")
	if _, err := runTool(ctx, unpackTimeout, "", "dpkg-deb", "--extract", deb, all); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			err = fmt.Errorf("%w: %w", ErrNoApt, err)
		}
		return "", "", fail(op, err, "")
	}
	if err := keepNeeded(all, keep); err != nil {
		return "", "", fail(op, err, "")
	}
	return kernelPath, modulesDir, fail(op, os.Rename(keep, target), "")
}

// keepNeeded copies the kernel, the needed modules and the list of built-in ones from an unpacked package.
func keepNeeded(all, keep string) error {
	kernels, err := filepath.Glob(filepath.Join(all, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return fmt.Errorf("%w: the package holds %d kernels", ErrNoKernelPackage, len(kernels))
	}
	release := strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
	from := filepath.Join(all, "lib", "modules", release)
	if _, err := os.Stat(from); err != nil { // merged /usr
		from = filepath.Join(all, "usr", "lib", "modules", release)
	}
	tree, err := openModules(from)
	if err != nil {
		return err
	}
	files := map[string]string{
		kernels[0]:                             filepath.Join(keep, "vmlinuz"),
		filepath.Join(from, "modules.builtin"): filepath.Join(keep, "modules", "modules.builtin"),
	}
	modules, err := tree.pick(wantedModules())
	if err != nil {
		return err
	}
	for _, m := range modules {
		path := tree.files[m.Name]
		files[path] = filepath.Join(keep, "modules", filepath.Base(path))
	}
	for src, dst := range files {
		if err := copyFile(dst, src, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// runTool runs a program with a plain locale and returns what it printed. The error carries the last lines of what it
// complained.
func runTool(ctx context.Context, limit time.Duration, dir, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		if said := tail(stderr.String(), 3); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return nil, fmt.Errorf("run %s: %w", name, err)
	}
	return stdout.Bytes(), nil
}

func tail(text string, lines int) string {
	all := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.Join(all[max(0, len(all)-lines):], "; ")
}
