package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// print writes to the command's output. Nobody is there to be told when that fails.
func (c *call) print(format string, args ...any) int {
	_, _ = fmt.Fprintf(c.stdout, format, args...)
	return 0
}

// refuse tells what is wrong and returns the exit status.
func (c *call) refuse(status int, format string, args ...any) int {
	_, _ = fmt.Fprintf(c.stderr, format+"\n", args...)
	return status
}

func succeed(context.Context, *call) int { return 0 }
func fail(context.Context, *call) int    { return exitFailed }

func hostname(_ context.Context, c *call) int { return c.print("%s\n", c.Hostname) }
func whoami(_ context.Context, c *call) int   { return c.print("root\n") }

func echo(_ context.Context, c *call) int {
	args, end := c.args, "\n"
	if len(args) > 0 && args[0] == "-n" {
		args, end = args[1:], ""
	}
	return c.print("%s%s", strings.Join(args, " "), end)
}

func id(_ context.Context, c *call) int {
	switch {
	case len(c.args) == 0:
		return c.print("uid=0(root) gid=0(root)\n")
	case slices.Contains(c.args, "-u") && slices.Contains(c.args, "-n"), c.args[0] == "-un":
		return c.print("root\n")
	case c.args[0] == "-u", c.args[0] == "-g":
		return c.print("0\n")
	}
	return c.refuse(exitFailed, "id: takes nothing, -u, -g or -un")
}

func env(_ context.Context, c *call) int {
	return c.print("HOME=/root\nPATH=/bin\nSHELL=/bin/sh\nUSER=root\n")
}

func date(_ context.Context, c *call) int {
	now := c.Now()
	for _, arg := range c.args {
		switch arg {
		case "-u":
			now = now.UTC()
		case "+%s":
			return c.print("%d\n", now.Unix())
		default:
			return c.refuse(exitFailed, "date: takes -u and +%%s here, not %q", arg)
		}
	}
	return c.print("%s\n", now.Format(time.UnixDate))
}

func uname(_ context.Context, c *call) int {
	switch strings.Join(c.args, " ") {
	case "":
		return c.print("Linux\n")
	case "-n":
		return c.print("%s\n", c.Hostname)
	case "-m":
		return c.print("x86_64\n")
	case "-r":
		return c.print("simulated\n")
	case "-a":
		return c.print("Linux %s simulated x86_64\n", c.Hostname)
	}
	return c.refuse(exitFailed, "uname: takes nothing, -a, -m, -n or -r here")
}

func uptime(_ context.Context, c *call) int {
	now := c.Now()
	up := now.Sub(c.Began)
	return c.print(" %s up %d min,  load average: 0.00, 0.00, 0.00\n", now.UTC().Format(time.TimeOnly), int(up.Minutes()))
}

func ip(_ context.Context, c *call) int {
	line := func(index int, name, address string) int {
		return c.print("%d: %s    inet %s\n", index, name, address)
	}
	if len(c.args) > 0 && !strings.HasPrefix("address", c.args[len(c.args)-1]) {
		return c.refuse(exitFailed, "ip: tells addresses alone here: ip addr")
	}
	line(1, "lo", "127.0.0.1/8")
	return line(2, "eth0", c.Address+"/32")
}

// files are those that a simulated guest has.
func (c *call) files() map[string]string {
	return map[string]string{
		"/etc/hostname": c.Hostname + "\n",
		"/proc/uptime":  strconv.FormatFloat(c.Now().Sub(c.Began).Seconds(), 'f', 2, 64) + " 0.00\n",
	}
}

func ls(_ context.Context, c *call) int {
	where := "/"
	for _, arg := range c.args {
		if !strings.HasPrefix(arg, "-") {
			where = arg
		}
	}
	where = "/" + strings.Trim(where, "/")
	seen := map[string]bool{}
	for name := range c.files() {
		if name == where {
			return c.print("%s\n", where)
		}
		if rest, ok := strings.CutPrefix(name, strings.TrimSuffix(where, "/")+"/"); ok {
			first, _, _ := strings.Cut(rest, "/")
			seen[first] = true
		}
	}
	if len(seen) == 0 {
		return c.refuse(exitFailed, "ls: %s: No such file or directory", where)
	}
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return c.print("%s\n", strings.Join(names, "\n"))
}

func cat(_ context.Context, c *call) int {
	args := c.args
	if len(args) == 0 {
		args = []string{"-"}
	}
	status := 0
	for _, name := range args {
		if name == "-" {
			if _, err := io.Copy(c.stdout, c.stdin); err != nil {
				status = c.refuse(exitFailed, "cat: %v", err)
			}
			continue
		}
		text, ok := c.files()[name]
		if !ok {
			status = c.refuse(exitFailed, "cat: can't open '%s': No such file or directory", name)
			continue
		}
		c.print("%s", text)
	}
	return status
}

// wc counts what it is told on its input.
func wc(_ context.Context, c *call) int {
	var lines, words, size int
	inWord := false
	buf := make([]byte, 4<<10)
	for {
		n, err := c.stdin.Read(buf)
		for _, b := range buf[:n] {
			space := b == ' ' || b >= '\t' && b <= '\r'
			if !space && !inWord {
				words++
			}
			inWord = !space
			if b == '\n' {
				lines++
			}
		}
		size += n
		if err != nil {
			if !errors.Is(err, io.EOF) {
				return c.refuse(exitFailed, "wc: %v", err)
			}
			break
		}
	}
	switch strings.Join(c.args, " ") {
	case "":
		return c.print("%7d %7d %7d\n", lines, words, size)
	case "-l":
		return c.print("%d\n", lines)
	case "-w":
		return c.print("%d\n", words)
	case "-c":
		return c.print("%d\n", size)
	}
	return c.refuse(exitFailed, "wc: takes nothing, -c, -l or -w here, and counts its input")
}

func sleep(ctx context.Context, c *call) int {
	if len(c.args) != 1 {
		return c.refuse(exitFailed, "sleep: takes one number of seconds")
	}
	seconds, err := strconv.ParseFloat(c.args[0], 64)
	if err != nil || seconds < 0 || seconds > 1e6 {
		return c.refuse(exitFailed, "sleep: invalid number '%s'", c.args[0])
	}
	timer := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return 0
	case <-ctx.Done():
		return exitFailed
	}
}

func poweroff(_ context.Context, c *call) int {
	if c.PowerOff == nil {
		return c.refuse(exitFailed, "poweroff: this machine cannot be switched off from here")
	}
	c.PowerOff()
	return 0
}
