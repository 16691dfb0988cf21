insert into bt_name_heap
select 10000 - n, (n::bigint * 1103515245 + 12345) % 2147483647 from generate_series(1, 9999) as n;
