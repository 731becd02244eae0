#!/usr/bin/perl
# What systemd does for x-systemd.automount, once: mounts on DIR when somebody looks into it.
# Usage: automounter.pl DIR COMMAND...   (COMMAND mounts on DIR; prints what `ls DIR` then says)
# Source: Documentation/filesystems/autofs.rst.
use strict;
use warnings;
use Fcntl;

use constant { AUTOFS_IOC_READY => 0x9360, AUTOFS_IOC_FAIL => 0x9361, PACKET_BYTES => 304 };

$^F = 255;    # the pipe is inherited by mount(8)
my ($dir, @command) = @ARGV;
pipe(my $requests, my $kernel_end) or die "pipe: $!";
my $options = sprintf 'fd=%d,pgrp=%d,minproto=5,maxproto=5,direct', fileno $kernel_end, getpgrp;
system('mount', '-i', '-t', 'autofs', '-o', $options, 'automounter', $dir) == 0 or die 'mount of autofs';
close $kernel_end;
sysopen(my $root, $dir, O_RDONLY | O_DIRECTORY) or die "$dir: $!";

# Outside of this process group, so that the kernel asks for the mount.
my $reader = fork // die "fork: $!";
if ($reader == 0) {
  $^F = 2;
  exec 'setsid', '--wait', 'timeout', '30', 'ls', "$dir/snapshots";
}
sysread($requests, my $packet, PACKET_BYTES) or die "no request: $!";
my ($version, $type, $token) = unpack 'l l L', $packet;
my $status = system 'timeout', '--foreground', '20', @command;
ioctl($root, $status == 0 ? AUTOFS_IOC_READY : AUTOFS_IOC_FAIL, $token + 0) or die "ioctl: $!";
waitpid $reader, 0;
exit($status == 0 ? $? >> 8 : 1);
