insert into hash_txt_heap
select n, (n::bigint * 1103515245 + 12345) % 2147483647 from generate_series(1, 9997) as n;
insert into hash_txt_heap values (9998, 843938989), (9999, 1505703298), (10000, 1351610853);
